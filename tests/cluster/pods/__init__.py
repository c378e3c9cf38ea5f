"""The transfers as pods of a whole cluster, and what only a kubelet does to them."""
