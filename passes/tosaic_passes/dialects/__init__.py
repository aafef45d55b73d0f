"""Where the MLIR bindings look for the Python classes of a dialect's operations.

Our dialects are unregistered and have none. Without a module of their name the bindings would search the whole
import path for one whenever they show an operation: about 0.1 ms each.
"""
