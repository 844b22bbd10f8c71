"""Bytes to values and back: nothing here touches a program, a stack or the kernel."""
