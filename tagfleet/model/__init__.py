"""What is learnt: the network, and the tagger that is published."""
