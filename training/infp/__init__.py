"""What INFP is trained with: losses, discriminator, probes."""
