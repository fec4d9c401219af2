"""Runnable recipes: each module trains one shipped model from nothing and writes its folder of weights."""
