"""Linear models by AdaGrad, many variants packed."""
