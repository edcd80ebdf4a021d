from mat.evidence import labels


def test_every_label_is_in_one_group():
    assert len(set(labels.METHOD_ORDER)) == len(labels.METHOD_ORDER)
    assert labels.METHOD_ORDER[:2] == ("vanilla", "mat")
    assert all(label in labels.GROUPS[labels.group(label)] for label in labels.METHOD_ORDER)


def test_unknown_labels_come_last_and_are_shown_with_the_main_ones():
    assert labels.group("mine") == labels.OTHERS
    assert labels.ordered(["zeta", "mine", "mat", "smallest", "vanilla"]) == [
        "vanilla",
        "mat",
        "smallest",
        "mine",
        "zeta",
    ]
    assert labels.of_groups(["mine", "smallest", "mat"], labels.MAIN) == ["mat", "mine"]
