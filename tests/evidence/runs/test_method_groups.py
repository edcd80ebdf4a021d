from mat.evidence.runs import method_groups


def test_every_label_is_in_one_group():
    assert len(set(method_groups.METHOD_ORDER)) == len(method_groups.METHOD_ORDER)
    assert method_groups.METHOD_ORDER[:2] == ("vanilla", "mat")
    assert all(label in method_groups.GROUPS[method_groups.group(label)] for label in method_groups.METHOD_ORDER)


def test_unknown_labels_come_last_and_are_shown_with_the_main_ones():
    assert method_groups.group("mine") == method_groups.OTHERS
    known = ["vanilla", "mat", "smallest", "mine", "zeta"]
    assert method_groups.ordered(["zeta", "mine", "mat", "smallest", "vanilla"]) == known
    assert method_groups.of_groups(["mine", "smallest", "mat"], method_groups.MAIN) == ["mat", "mine"]
