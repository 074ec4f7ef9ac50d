"""What the models are told: the constitution, the branches' prompts and the SOPs, as files."""
