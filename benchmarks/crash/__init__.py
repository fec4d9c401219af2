"""Kills Hearth's processes at random points of what users ask for, and checks that nothing acknowledged is lost."""
