"""The degradation study: which pyramid levels matter for which object scales."""
