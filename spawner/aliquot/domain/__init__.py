"""Decisions. Values in, values out; standard library only; nothing here reads or writes."""
