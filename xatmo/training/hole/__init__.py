"""The paper's experiment: an autoencoder fills a hole, by the error or the distance."""
