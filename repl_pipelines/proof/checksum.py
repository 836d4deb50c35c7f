"""Row text, row hash, bucket: the one definition that every engine renders in its own SQL.

A row's text is its columns' canonical forms (see `proof.canonical`) joined by '|'; NULL is '~',
which no form begins with. Its hash is the MD5 of that text (RFC 1321), taken as two 64-bit halves,
whose sums over a set of rows do not depend on order. A row's bucket is taken from the MD5 of its
key's text, or of the whole row where there is no key.
"""
