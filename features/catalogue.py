"""What every shipped feature is: its family, formula, warm-up, when it is missing, and where it comes from.

This is the one list of names, in the order of the table; the families (features/families) must return exactly these.
Everything is known at the close of the session, and every feature is missing where its ticker has no bar.
"""

from __future__ import annotations

from typing import NamedTuple

from features import news


class Feature(NamedTuple):
    """One column of the feature table.

    Attributes:
        name: of the column. family: one of FAMILIES.
        formula: see NOTATION.
        warm_up: sessions from a ticker's first bar until it is defined when none is missing, that bar included.
        missing: when it is NaN beside the warm-up and sessions without a bar; empty = never.
        source: of the method; empty = plain arithmetic.
    """

    name: str
    family: str
    formula: str
    warm_up: int
    missing: str = ""
    source: str = ""


NOTATION = (
    "r = log total return since the ticker's previous bar (dividends and splits in), L = running sum of r, "
    "v = EWMA volatility of r (RiskMetrics 1996: lambda .94, r clipped at +-50 %, at least .003), "
    "C, H, L', O = logs of close, high, low, open of the bar, gap = O less the previous close, V = volume, "
    "m = mean r of the universe's members, w = EWMA volatility of m, mean_n, sum_n, rms_n, std_n, var_n, cov_n over "
    "the last n sessions, ln = natural logarithm; a ratio inside ln is at least e^-5 in rows marked *."
)
WINDOW = "short window"
RISK_METRICS = "RiskMetrics 1996"


def _rows(
    family: str, *rows: tuple[str, str, int] | tuple[str, str, int, str] | tuple[str, str, int, str, str]
) -> tuple[Feature, ...]:
    return tuple(Feature(name, family, *rest) for name, *rest in rows)  # type: ignore[arg-type]


_RETURNS = _rows(
    "returns",
    ("ret_1", "r / v", 21),
    *((f"ret_{n}", f"sum_{n}(r) / (v sqrt {n})", max(21, n * 4 // 5 + 1), WINDOW) for n in (5, 20, 60, 120, 250)),
)
_MOMENTUM = _rows(
    "momentum",
    ("mom_250_20", "sum of r over sessions t-249 to t-20 / (v sqrt 230)", 205, WINDOW, "Jegadeesh and Titman 1993"),
    ("rsi_14", "(G - F) / (G + F) = RSI/50 - 1; G, F = averages, decay 13/14, of max(r, 0), max(-r, 0); 0 if all is 0",
     15, "", "Wilder 1978"),
    ("macd", "(EMA_12(L) - EMA_26(L)) / v, EMA_s of decay (s-1)/(s+1)", 27, "", "Appel 1979"),
    ("macd_hist", "(M - EMA_9(M)) / v, M = EMA_12(L) - EMA_26(L)", 35, "", "Appel 1979"),
    ("boll_20", "(L - mean_20(L)) / (2 std_20(L)), ddof 0", 16, f"{WINDOW}; nothing moved", "Bollinger 1992"),
    ("stoch_14", "2 (C - lowest L') / (highest H - lowest L') - 1, adjusted, over 14 sessions", 12,
     f"{WINDOW}; nothing moved", "Lane 1984"),
)  # fmt: skip
_VOLATILITY = _rows(
    "volatility",
    ("log_vol", "ln v", 21, "", RISK_METRICS),
    ("abs_1", "|r| / v", 21),
    ("vol_change_20", "ln(v / v 20 sessions before, or the latest then known)", 41, "", RISK_METRICS),
    *((f"vol_{n}", f"ln(rms_{n}(r) / v) *", max(21, n * 4 // 5 + 1), WINDOW) for n in (5, 20, 60, 250)),
    ("downside_60", "rms_60(min(r, 0)) / rms_60(r)", 49, f"{WINDOW}; nothing moved", "Sortino and Price 1994"),
    ("semi_20", "rms_20(min(r, 0)) / rms_20(r)", 17, f"{WINDOW}; nothing moved", "Sortino and Price 1994"),
    ("vol_ratio_5_60", "ln(rms_5(r) / rms_60(r)) *", 49, f"{WINDOW}; nothing moved"),
    ("abs_5", "mean_5(|r|) / v", 21, WINDOW),
    ("jump_20", "highest |r| of 20 sessions / v", 21, WINDOW),
)
_RANGE = _rows(
    "range",
    *((f"park_{n}", f"ln(sqrt(mean_{n}((H - L')^2) / (4 ln 2)) / v) *", 21, WINDOW if n > 1 else "", "Parkinson 1980")
      for n in (1, 5, 20)),
    *((f"gk_{n}", f"ln(sqrt(mean_{n}((H - L')^2 / 2 - (2 ln 2 - 1) (C - O)^2)) / v) *", 21, WINDOW,
       "Garman and Klass 1980") for n in (5, 20)),
    ("rs_20", "ln(sqrt(mean_20((H - C) (H - O) + (L' - C) (L' - O))) / v) *", 21, WINDOW, "Rogers and Satchell 1991"),
    ("yz_20", "ln(sqrt(var_20(gap) + k var_20(C - O) + (1 - k) RS) / v) *, k = .34 / (1.34 + 21/19), ddof 1, RS the "
     "mean in rs_20", 21, WINDOW, "Yang and Zhang 2000"),
    ("atr_14", "ln(A / v) *, A = average, decay 13/14, of max(H, previous C) - min(L', previous C)", 21, "",
     "Wilder 1978"),
)  # fmt: skip
_GAP = _rows(
    "gap",
    ("gap_1", "gap / v", 21),
    ("gap_abs_1", "|gap| / v", 21),
    ("gap_vol_20", "ln(rms_20(gap) / v) *", 21, WINDOW),
    ("gap_share_20", "mean_20(gap^2) / (mean_20(gap^2) + mean_20((r - gap)^2))", 17, f"{WINDOW}; nothing moved"),
)
_MARKET = _rows(
    "market",
    ("mkt_log_vol", "ln w", 21, "", RISK_METRICS),
    ("mkt_ret_1", "m / w", 21),
    ("mkt_ret_20", "sum_20(m) / (w sqrt 20)", 21, WINDOW),
    ("mkt_ret_60", "sum_60(m) / (w sqrt 60)", 49, WINDOW),
    ("mkt_abs_1", "|m| / w", 21),
    *((f"mkt_vol_{n}", f"ln(rms_{n}(m) / w) *", max(21, n * 4 // 5 + 1), WINDOW) for n in (5, 60, 250)),
    ("mkt_park_5", "mean of the members' park_5", 21, "", "Parkinson 1980"),
    ("mkt_drawdown_250", "max(M - highest M of 250 sessions, -5) / (w sqrt 250), M = running sum of m", 201, WINDOW),
    ("mkt_up_share", "share of the members with r > 0, less 1/2", 2),
    ("dispersion_20", "ln(rms_20(D) / w) *, D = standard deviation of r across the members, ddof 0", 21, WINDOW),
    ("corr_avg_60", "(var_60(m) / A - 1/n) / (1 - 1/n), A = mean of the n members' var_60(r): average correlation",
     49, f"{WINDOW}; a single member"),
    ("rel_vol", "ln v - ln w", 21, "", RISK_METRICS),
)  # fmt: skip
_BETA = _rows(
    "beta",
    *((f"beta_{n}", f"cov_{n}(r, m) / var_{n}(m)", n * 4 // 5 + 1, WINDOW, "Sharpe 1964") for n in (60, 250)),
    ("corr_60", "correlation of r and m over 60 sessions", 49, f"{WINDOW}; nothing moved"),
    ("resid_vol_60", "ln(std_60(r - beta_60 m) / v) *", 49, WINDOW, "Ang, Hodrick, Xing and Zhang 2006"),
    ("resid_ret_20", "sum_20(r - beta_60 m) / (v sqrt 20)", 49, WINDOW),
)
_VOLUME = _rows(
    "volume",
    *((f"volume_z_{n}", f"(ln V - mean_{n}(ln V)) / std_{n}(ln V), ddof 1", n * 4 // 5,
       "no volume, or in fewer than 4/5 of the window, or always the same") for n in (20, 60)),
    ("volume_trend", "mean_5(ln V) - mean_60(ln V)", 48, "no volume, or in fewer than 4/5 of the window"),
    ("volume_vol_20", "std_20(ln V), ddof 1", 16, "no volume, or in fewer than 4/5 of the window, or always the same"),
    ("amihud_20", "ln(mean_20(i) / mean_250(i)) *, i = |r| / (close V), as reported", 201,
     "volume in fewer than 4/5 of the window", "Amihud 2002"),
    ("volume_ret_20", "correlation of |r| and ln V over 20 sessions", 17,
     "volume in fewer than 4/5 of the window, or nothing moved", "Karpoff 1987"),
)  # fmt: skip
_DRAWDOWN = _rows(
    "drawdown",
    *((f"drawdown_{n}", f"max(L - highest L of {n} sessions, -5) / (v sqrt {n})", max(21, n * 4 // 5), WINDOW)
      for n in (20, 60, 250)),
    *((f"rise_{n}", f"min(L - lowest L of {n} sessions, 5) / (v sqrt {n})", max(21, n * 4 // 5), WINDOW)
      for n in (20, 60, 250)),
    ("since_high_250", "sessions since the highest L of 250 sessions / 250", 200, WINDOW, "George and Hwang 2004"),
)  # fmt: skip
_RANK = _rows(
    "rank",
    *((name, f"(rank of {of} among the members - 1) / (their number - 1) - 1/2, ties share; 0 if alone", warm_up,
       f"no member, or no {of}")
      for name, of, warm_up in (
          ("rank_ret_1", "ret_1", 21), ("rank_ret_20", "ret_20", 21), ("rank_mom_250", "mom_250_20", 205),
          ("rank_vol", "log_vol", 21), ("rank_volume_z_20", "volume_z_20", 16),
          ("rank_drawdown_250", "drawdown_250", 200),
      )),
)  # fmt: skip
_CALENDAR = _rows(
    "calendar",
    *((day, f"1 on a {day.capitalize()}, else 0 (Friday: all 0)", 1)
      for day in ("monday", "tuesday", "wednesday", "thursday")),
    ("days_since", "ln(calendar days since the ticker's previous bar, at most 10)", 2, "", "French 1980"),
    ("month_end", "1 on the last three calendar days of a month, else 0", 1, "", "Ariel 1987"),
    ("expiry_week", "1 in the week of a month's third Friday, when options expire, else 0", 1, "",
     "Stoll and Whaley 1987"),
)  # fmt: skip

PRICE_FEATURES: tuple[Feature, ...] = (
    *_RETURNS, *_MOMENTUM, *_VOLATILITY, *_RANGE, *_GAP, *_MARKET, *_BETA, *_VOLUME, *_DRAWDOWN, *_RANK, *_CALENDAR,
)  # fmt: skip
SENTIMENT_FEATURES = _rows("sentiment", *((name, formula, 1, "", source) for name, formula, source in news.CATALOGUE))


def catalogue() -> tuple[Feature, ...]:
    """Every shipped feature, in the order of the table."""
    return PRICE_FEATURES + SENTIMENT_FEATURES


def names_by_family() -> dict[str, tuple[str, ...]]:
    """Family -> its features, in the order of the table."""
    families = dict.fromkeys(feature.family for feature in catalogue())
    return {family: tuple(f.name for f in catalogue() if f.family == family) for family in families}
