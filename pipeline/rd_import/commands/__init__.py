"""The commands of `rd-import`, by what they are about, and what they share. Heavy imports wait in each command."""
