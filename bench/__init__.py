"""The speed promises, measured: `make bench`. Figures are ratios against a floor or a peer in
the same run, since machines differ and drift; nothing here runs with the tests."""
