"""Domains for vendors' browsers; tests/test_designs.py has the result file as a whole."""

import pandas as pd

from mosaic.analyse import export


def test_browsers_get_the_barcodes_of_the_file_and_the_domains_of_one_slice():
    obs = pd.DataFrame(
        {
            "slice": pd.Categorical(["s1", "s10", "s1"]),
            "barcode": ["AAA-1", "AAA-1", "CCC-1"],
            "modalities": "rna",
            "mosaic_domain": pd.Categorical(["2", "1", "10"]),
            "domain_spamosaic_1": pd.Categorical(["2", "1", "10"]),
            "consensus_spamosaic": pd.Categorical(["3", "1", "3"]),
            "confidence_spamosaic": 0.5,
            "truth": "x",
        },
        index=["s1:AAA-1", "s10:AAA-1", "s1:CCC-1"],
    )
    loupe, xenium = export.browser_tables(obs, "s1")
    assert loupe.columns.tolist() == ["Barcode", "mosaic_domain", "domain_spamosaic_1", "consensus_spamosaic"]
    assert loupe.astype(str).to_numpy().tolist() == [["AAA-1", "2", "2", "3"], ["CCC-1", "10", "10", "3"]]
    assert xenium.to_csv(index=False) == "cell_id,group\nAAA-1,2\nCCC-1,10\n"
