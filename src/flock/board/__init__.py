"""The board as it is read: by agents and operators, as it is, as it was and why; and what its keeper may do with it."""
