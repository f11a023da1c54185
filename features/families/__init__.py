"""The families of price features: functions of `Bars` that return name -> (N, keep) float64, NaN = missing."""
