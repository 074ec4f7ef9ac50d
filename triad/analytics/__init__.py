"""What the record says about the work: one pass, figures with their counts, and sentences about them."""
