"""Compare the contract with what a runtime really does: draw configurations, run them, judge."""
