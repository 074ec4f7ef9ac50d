"""What things cost: each module measures one thing beside what it is compared with, in the same run."""
