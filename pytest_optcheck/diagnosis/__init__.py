"""Why a case left its envelope: which textbook mistake explains what its optimizer does now.

`causes` answers for a case; `observing` trains it once more and keeps every update; `replaying` runs rules over what
was kept; `bank` holds the mistakes; `ranking` says which of them explains it; `wording` puts that into a sentence.
Importing this package imports nothing heavy.
"""
