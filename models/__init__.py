"""The models Hearth ships with: a catalogue of them and the recipes that trained them."""
