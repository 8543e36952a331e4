"""PPO: policy, normalizers, rollout, update, learner, checkpoint, evaluation."""
