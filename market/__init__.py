"""Market data: today `pit replay`, which plays recorded order flow; k-lines and last prices in a later release."""
