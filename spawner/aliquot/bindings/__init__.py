"""Bindings: a lease becomes a patch on what will run.

A binding translates and nothing else: it reads no file, asks no driver, keeps no state. The
caller applies the patch last, so that nothing set elsewhere can widen it.
"""
