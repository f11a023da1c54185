from __future__ import annotations

from features.catalogue import catalogue, names_by_family
from features.news import NAMES
from features.prices import FAMILIES


def test_every_feature_is_described_once() -> None:
    names = [feature.name for feature in catalogue()]
    assert len(set(names)) == len(names)
    assert all(feature.formula and feature.warm_up >= 1 for feature in catalogue())
    assert tuple(names_by_family()) == (*FAMILIES, "sentiment")
    assert names_by_family()["sentiment"] == NAMES
    assert len([feature for feature in catalogue() if feature.family != "sentiment"]) >= 40


def test_none_has_forgotten_the_features_it_had() -> None:
    """Bundles and configurations name features: a name stays, and keeps its meaning."""
    first = """
        ret_1 ret_5 ret_20 ret_60 log_vol abs_1 vol_change_20 vol_5 vol_20 vol_60 vol_250 downside_60 park_1
        park_5 park_20 gap_1 gap_abs_1 gap_vol_20 mkt_log_vol mkt_ret_1 mkt_ret_20 mkt_abs_1 mkt_vol_5
        mkt_vol_60 mkt_vol_250 mkt_park_5 dispersion_20 rel_vol volume_z_20 volume_z_60 volume_trend drawdown_60
        drawdown_250 monday tuesday wednesday thursday news_count positive_share negative_share polarity_mean
        subjectivity_mean polarity_decay_5 market_polarity no_news
    """
    assert set(first.split()) <= {feature.name for feature in catalogue()}
