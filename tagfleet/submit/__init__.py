"""From a laptop to a Ray cluster: what is sent, what is checked before, how one follows it. Ray's Jobs API is here."""
