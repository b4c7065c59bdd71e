"""Defaults that depend on a modality's kind or on the recipe."""

from typing import Any

# Defaults of a modality by its kind.
KIND_DEFAULTS: dict[str, dict[str, Any]] = {
    "rna": {
        "features": "shared",
        "normalization": "log",
        "feature_selection": "seurat",
        "n_top_features": 2000,
        "scale": False,
        "reduction": "pca",
        "n_comps": 50,
        "batch_correction": "auto",
    },
    "protein": {
        "features": "shared",
        "normalization": "clr",
        "feature_selection": "all",
        "n_top_features": None,
        "scale": False,
        "reduction": "pca",
        "n_comps": 50,
        "batch_correction": "auto",
    },
    "epigenome": {
        "features": "shared",
        "normalization": "tfidf",
        "feature_selection": "prevalence",
        "n_top_features": 50_000,
        "scale": False,
        "reduction": "lsi",
        "n_comps": 50,
        "drop_first": "before_zscore",
        "batch_correction": "auto",
    },
    "features": {
        "features": "shared",
        "normalization": "none",
        "feature_selection": "all",
        "n_top_features": None,
        "scale": False,
        "reduction": "none",
        "n_comps": 50,
        "batch_correction": "none",
    },
}

# Values that recipe `published` overrides: the defaults above, by kind, and those of the schema, by section.
# docs/measurements.md says what each choice is worth.
PUBLISHED_HARMONY = {"harmony": {"lamb": 1.0, "max_iter": 10}}

PUBLISHED_KINDS: dict[str, dict[str, Any]] = {
    "rna": {"n_top_features": 5000, "batch_correction": PUBLISHED_HARMONY},
    "protein": {"batch_correction": PUBLISHED_HARMONY},
    "epigenome": {
        "feature_selection": "seurat_v3",
        "drop_first": "after_zscore",
        "batch_correction": PUBLISHED_HARMONY,
    },
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "graph": {"symmetric": False, "weight_mnn": False},
    "train": {"reconstruct": "queries"},
    "cluster": {"method": "mixture"},
    "impute": {"method": "nearest", "n_neighbors": 10},
}

# Keys of a modality that say how fragments are counted: the reader's, not the reduction's.
COUNTING = ("peaks", "bin_size")

# Valid combinations, by kind.
ALLOWED = {
    "rna": {"features": {"shared", "union"}, "normalization": {"log", "none"}, "reduction": {"pca", "lsi"}},
    "protein": {
        "features": {"shared", "union"},
        "normalization": {"clr", "log", "none"},
        "reduction": {"pca"},
    },
    "epigenome": {"features": {"shared"}, "normalization": {"tfidf"}, "reduction": {"lsi"}},
    "features": {
        "features": {"shared"},
        "normalization": {"none"},
        "reduction": {"none"},
        "feature_selection": {"all"},
    },
}
