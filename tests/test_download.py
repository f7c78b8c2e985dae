"""Downloads arrive whole or leave nothing and say why in one line."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
from longtail.data.sources import cifar10, cifar100, cifar100_coarse, fashion_mnist, mnist, svhn, svhn_extra
from longtail.data.sources.base import Located
from longtail.data.sources.download import download
from tests.conftest import REPOSITORY
from tests.refusals import refused
from tests.sources import in_directory

CIFAR10 = "cifar-10-python.tar.gz"
CIFAR100 = "cifar-100-python.tar.gz"
PUBLISHED = {
    # SHA-256 in Keras.
    f"https://www.cs.toronto.edu/~kriz/{CIFAR10}": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    f"https://www.cs.toronto.edu/~kriz/{CIFAR100}": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    # SHA-256 in TensorFlow Datasets.
    **{
        f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}": sha256
        for name, sha256 in {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        }.items()
    },
    **{
        f"https://ufldl.stanford.edu/housenumbers/{name}": sha256
        for name, sha256 in {
            "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            "extra_32x32.mat": "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
        }.items()
    },
    # SHA-256 of what is packed: Debian packs the files anew.
    **{
        f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{name}": sha256
        for name, sha256 in {
            "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        }.items()
    },
}
MD5_OF_MEMBERS = {
    # MD5 in torchvision, where nobody publishes a SHA-256.
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    TRAIN: "16019d7e3df5f24257cddd939b257f8d",
    TEST: "f0ef6b0ae62326f3e7ffdfab6717acfc",
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would be asked even for this machine's own addresses."""
    monkeypatch.setenv("no_proxy", "*")


@contextmanager
def server(status: int, body: bytes, *, announced: int) -> Iterator[str]:
    """A web server on this machine that gives one answer to all; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/file"
        finally:
            http.shutdown()
            thread.join()


def test_every_download_is_over_https_and_of_a_published_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls: dict[str, str] = {}

    def touch(url: str, path: Location) -> None:
        urls[url] = path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("wb").close()

    for source in (cifar10, cifar100, mnist, fashion_mnist, svhn):
        monkeypatch.setattr(source, "download", touch)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", tmp_path / "debian")
    options = in_directory(tmp_path, dataset="svhn")
    for source in (cifar10, cifar100, cifar100_coarse, mnist, fashion_mnist, svhn):
        source.locate(options)
    svhn_extra.locate(options, Located(shards=[], origin="", class_names=[], image_shape=svhn.IMAGE_SHAPE))

    hashes = {CIFAR10: cifar10._ARCHIVE_SHA256, CIFAR100: cifar100._ARCHIVE_SHA256}
    hashes |= {svhn.FILE[split]: svhn._SHA256[split] for split in (TRAIN, TEST, UNLABELED)}
    packed = {fashion_mnist.OFFICIAL_URL: fashion_mnist._SHA256, mnist.URL: mnist._SHA256}
    found = {url: packed.get(url.rpartition("/")[0], hashes)[name] for url, name in urls.items()}
    assert found == PUBLISHED
    assert cifar10._MD5 | cifar100._MD5 == MD5_OF_MEMBERS
    assert set(sources_of_the_network()) == {"cifar10.py", "cifar100.py", "fashion_mnist.py", "mnist.py", "svhn.py"}


def sources_of_the_network() -> list[str]:
    """The modules that download: one that is new belongs into the test above."""
    return [file.name for file in (REPOSITORY / "data").rglob("*.py") if "import download" in file.read_text()]


def test_a_download_arrives_whole(tmp_path: Path) -> None:
    body = bytes(range(256)) * 1000
    with server(200, body, announced=len(body)) as url:
        download(url, tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == body
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("status", "announced", "reason"),
    [(404, 4, "Not Found"), (500, 4, "Internal Server Error"), (200, 1000, "it ended after 4 of 1000 bytes")],
)
def test_a_failed_download_leaves_nothing_and_says_why(
    tmp_path: Path, status: int, announced: int, reason: str
) -> None:
    with server(status, b"part", announced=announced) as url, refused() as messages:
        download(url, tmp_path / "file")
    assert messages[0] == f"{url} cannot be downloaded ({reason})"
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_in_http_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"no http\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with refused() as messages:
            download(f"http://127.0.0.1:{listener.getsockname()[1]}/file", tmp_path / "file")
        thread.join()
    assert "cannot be downloaded" in messages[0]
    assert list(tmp_path.iterdir()) == []


def test_a_download_from_where_nobody_listens_is_refused(tmp_path: Path) -> None:
    with refused() as messages:
        # Nobody listens on the discard port of this machine.
        download("http://127.0.0.1:9/file", tmp_path / "file")
    assert "Connection refused" in messages[0]
