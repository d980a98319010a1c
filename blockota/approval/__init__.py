"""Objects that a Safe's owners sign or review: transactions, proposals, signatures, chain views and red flags."""
