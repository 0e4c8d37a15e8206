"""What comes out of the forwarder for what goes in, computed from the RFCs and the documented contract.

Nothing here reads or calls the project's code: where both agree byte for byte, two people read the same RFC alike.
"""
