"""The board as it is read: by agents and operators, as it is, as it was and why; and what its keeper may do with it.

`reader` is for both, `keeper` for operators alone and `homed` for those on any event loop; `why` has the reasons.
`ports` is what stores are asked for beyond a Flock's work, and `image` a board on its way from one store to another.
"""
