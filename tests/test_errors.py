from longtail.conf.base.errors import UserError


def test_a_message_is_one_line_whatever_it_quotes():
    quoted = "A load persistent id instruction was encountered,\nbut no persistent_load function was specified."

    assert str(UserError(f"x.pickle cannot be read: {quoted}; get the file again")) == (
        "x.pickle cannot be read: A load persistent id instruction was encountered, but no persistent_load function "
        "was specified.; get the file again"
    )


def test_a_message_keeps_the_spaces_of_a_path():
    assert str(UserError("there is no file /data/two  spaces.gz")) == "there is no file /data/two  spaces.gz"
