"""Plain classifiers on an application's features, for comparison: what needs no language model.

scikit-learn's own with its defaults, nothing tuned. Numbers are scaled to mean 0 and variance 1, choices are one column
each. A wording of a suite stands in the place of the value, as in the prompt: no choice, so all of its columns are 0.
"""

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

MAX_ITERATIONS = 2000  # of logistic regression, whose default of 100 warns on rules that it separates


def as_shown(frame: pl.DataFrame, ruleset) -> pl.DataFrame:
    """The features as a prompt shows them: in a suite, the words of `shown_text` in the place of the value."""
    features = frame.select(ruleset.feature_names)
    if "shown_text" not in frame.columns:
        return features
    return features.with_columns(
        pl.when(frame["shown_feature"].eq_missing(name)).then(frame["shown_text"]).otherwise(pl.col(name)).alias(name)
        for name in ruleset.feature_names
        if features.schema[name] == pl.String
    )


def make_classifier(kind: str, ruleset, seed: int) -> Pipeline:
    """An unfitted classifier of `kind` (constant, logistic, boosting) on the columns of `as_shown`."""
    numbers = [feature.name for feature in ruleset.features if feature.kind == "number"]
    choices = [feature for feature in ruleset.features if feature.kind == "choice"]
    one_hot = OneHotEncoder(
        categories=[list(feature.choices) for feature in choices], handle_unknown="ignore", sparse_output=False
    )
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), numbers), ("choices", one_hot, [feature.name for feature in choices])]
    )
    classifier = {
        "constant": DummyClassifier(strategy="prior"),
        "logistic": LogisticRegression(max_iter=MAX_ITERATIONS),
        "boosting": HistGradientBoostingClassifier(random_state=seed),
    }[kind]
    return make_pipeline(columns, classifier)


def fit(kind: str, ruleset, train: pl.DataFrame, seed: int) -> Pipeline:
    """A classifier of the label's place among `ruleset.labels`, fitted to the rows of `train`.

    Where all rows have one label there is nothing to fit, and every kind answers it.
    """
    place = {label: i for i, label in enumerate(ruleset.labels)}
    truth = train["label"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    kind = kind if train["label"].n_unique() > 1 else "constant"
    return make_classifier(kind, ruleset, seed).fit(as_shown(train, ruleset), truth)


def label_probabilities(classifier: Pipeline, ruleset, frame: pl.DataFrame) -> np.ndarray:
    """Float64 probabilities (N, L) of `ruleset.labels`, in their order; 0 for one that was not in training."""
    probabilities = np.zeros((len(frame), len(ruleset.labels)))
    probabilities[:, classifier.classes_] = classifier.predict_proba(as_shown(frame, ruleset))
    return probabilities
