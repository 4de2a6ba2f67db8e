"""Training the learned codec; needs torch, which the extra ``train`` installs."""
