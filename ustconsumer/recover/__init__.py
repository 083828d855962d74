# SPDX-License-Identifier: MIT
"""A readable trace from the files in which a session had its buffers, after everything died.

Files of this package's registry and of LTTng (``--shm-path``) are the same.
"""
