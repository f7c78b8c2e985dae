from longtail.conf.base.errors import UserError


def test_a_message_is_one_line_whatever_it_quotes():
    quoted = "A load persistent id instruction was encountered,\nbut no persistent_load function was specified."

    assert str(UserError(f"x.pickle cannot be read: {quoted}; get the file again")) == (
        "x.pickle cannot be read: A load persistent id instruction was encountered, but no persistent_load function "
        "was specified.; get the file again"
    )


def test_a_message_keeps_the_spaces_of_a_path():
    assert str(UserError("there is no file /data/two  spaces.gz")) == "there is no file /data/two  spaces.gz"


def test_the_middle_of_a_message_that_quotes_a_whole_file_is_left_out():
    message = str(UserError(f"list.txt:1 is {'9' * 10_000}: a path, a space and a label were expected"))
    assert len(message) == 2005 and " ... " in message
    assert message.startswith("list.txt:1 is 9") and message.endswith("9: a path, a space and a label were expected")
    assert str(UserError("x" * 2000)) == "x" * 2000
