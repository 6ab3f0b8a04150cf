"""From logits to answers: probabilities of views, their average, metrics, confidence intervals, confusion matrix."""
