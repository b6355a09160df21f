"""A list of URLs in, a database of summaries out.

::

    urls.txt ── urls ──> frontier ──> fetch ──> extract ──> chunk ──> summarize (map ─> reduce) ──> store
                (Line)    (Task)     (Page)   (Document)   (Chunk)            (Event)              (rows)

One worker carries one page through all of it (`page`), many work side by side (`engine`), and each event is
stored at once (`store`). `run` opens and closes everything; `cli` only parses and prints.
"""
