"""What is varied and what is asked: factors, constraints, designs and hypotheses."""
