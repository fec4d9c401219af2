"""Requests nobody would write, at every address of Hearth: none may end in a 500, late, or leave anything behind."""
