"""What the owners of a Safe sign: transactions, proposals, signatures, red flags."""
