"""Every format: round trips of every dtype and shape, hostile files, files that others wrote."""

from __future__ import annotations

import contextlib
import tracemalloc
import zipfile

import cbor2
import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tensor_cases import NAMES, assert_same, tensors
from tosaic.errors import TosaicError
from tosaic.tensors.candid import TensorType
from tosaic.tensors.dtypes import DTYPES, dtype_of
from tosaic.tensors.formats import FORMATS, fitted, format_named, read_file, write_file

TYPED = [format for format in FORMATS if format.is_typed]
SEVERAL = [format for format in TYPED if format.holds_several]
CANDID = format_named("candid")


def written(format, arrays) -> memoryview:
    return memoryview(b"".join(format.write(arrays)))


def ids(formats):
    return [format.name for format in formats]


@pytest.mark.parametrize("format", TYPED, ids=ids(TYPED))
@given(array=tensors())
def test_round_trip(format, array) -> None:
    (found,) = format.read(written(format, {"": array})).values()
    assert_same(found, array)


@pytest.mark.parametrize("format", TYPED, ids=ids(TYPED))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (3, 5)], ids=str)
def test_every_dtype(format, dtype, shape) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype_of(dtype))
    (found,) = format.read(written(format, {"": array})).values()
    assert_same(found, array)


@pytest.mark.parametrize("format", SEVERAL, ids=ids(SEVERAL))
@given(arrays=st.dictionaries(NAMES, tensors(), min_size=2, max_size=5))
def test_round_trip_of_several(format, arrays) -> None:
    found = format.read(written(format, arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert_same(found[name], array)


@given(array=tensors())
def test_candid_gives_back_a_tensor_whose_type_is_known(array) -> None:
    (found,) = CANDID.read(written(CANDID, {"": array})).values()
    assert_same(fitted(found, array.dtype.name, array.shape, CANDID), array)


@pytest.mark.parametrize("format", SEVERAL, ids=ids(SEVERAL))
def test_no_tensors(format) -> None:
    assert format.read(written(format, {})) == {}


@pytest.mark.parametrize("format", TYPED, ids=ids(TYPED))
def test_the_same_tensors_are_the_same_bytes(format) -> None:
    arrays = {"x": np.eye(3)} if not format.holds_several else {"x": np.eye(3), "b": np.ones(2, bool)}
    assert written(format, arrays) == written(format, arrays)


@pytest.mark.parametrize("format", FORMATS, ids=ids(FORMATS))
def test_large_tensors_are_not_copied(format) -> None:
    array = np.arange(1 << 18, dtype=np.float32)
    buffer = written(format, {"x": array})
    (found,) = format.read(buffer).values()
    assert np.shares_memory(found, np.frombuffer(buffer, np.uint8))


@pytest.mark.parametrize("format", FORMATS, ids=ids(FORMATS))
@pytest.mark.parametrize("dtype", [np.complex64, "U3", "M8[s]", object], ids=str)
def test_refuses_to_write_other_dtypes(format, dtype) -> None:
    with pytest.raises(TosaicError):
        format.write({"x": np.zeros(2).astype(dtype)})


# Hostile files


def valid_file(format) -> bytes:
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "é": np.array([1, -3, 2], ml_dtypes.int4)}
    return bytes(written(format, arrays if format.holds_several else {"x": arrays["x"]}))


def read_or_refuse(format, data: bytes) -> None:
    """Either tensors or a TosaicError, in memory that is bounded by the size of the file."""
    found: dict[str, np.ndarray] = {}
    tracemalloc.start()
    with contextlib.suppress(TosaicError):
        found = format.read(memoryview(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert all(array.dtype.name in DTYPES for array in found.values())


@pytest.mark.parametrize("format", FORMATS, ids=ids(FORMATS))
def test_every_truncation_is_refused(format) -> None:
    data = valid_file(format)
    for size in range(len(data)):
        with pytest.raises(TosaicError):
            format.read(memoryview(data[:size]))


@pytest.mark.parametrize("format", FORMATS, ids=ids(FORMATS))
@given(draw=st.data())
def test_mutations_are_read_or_refused(format, draw) -> None:
    mutated = bytearray(valid_file(format))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(mutated)))
        mutated[at : at + draw.draw(st.integers(0, 3))] = draw.draw(
            st.one_of(st.binary(max_size=9), st.sampled_from([b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"9" * 9]))
        )
    read_or_refuse(format, bytes(mutated))


@pytest.mark.parametrize("format", FORMATS, ids=ids(FORMATS))
@given(data=st.binary(max_size=60))
def test_noise_is_read_or_refused(format, data) -> None:
    read_or_refuse(format, format.magic + data)


def numpy_header(descr: str, shape: str) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HUGE = (1 << 63).to_bytes(8, "big")
REFUSED = {
    "npy": [
        (numpy_header("<f4", "(-1,)") + bytes(4), "shape that is none"),
        (numpy_header("<f4", "(True,)") + bytes(4), "shape that is none"),
        (numpy_header("<f4", f"({1 << 32}, {1 << 32})"), "too large for any memory"),
        (numpy_header("<f4", "(2, 3)") + bytes(23), "23 bytes of data, its shape .* needs 24"),
        (numpy_header("<f4", "(2, 3)") + bytes(25), "25 bytes of data, its shape .* needs 24"),
        (numpy_header("|O", "(1,)") + bytes(8), "tensors of object are not supported"),
        (numpy_header("<c8", "(1,)") + bytes(8), "tensors of complex64 are not supported"),
        (numpy_header("|b1", "(1,)") + b"\2", "bool is not between"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"[" * 65535, "header of numpy"),
    ],
    "proto": [
        (onnx.TensorProto(dims=[-1], data_type=1, raw_data=bytes(4)), "shape that is none"),
        (onnx.TensorProto(dims=[1 << 32, 1 << 32], data_type=1), "too large for any memory"),
        (onnx.TensorProto(dims=[2], data_type=1, raw_data=bytes(4)), "4 bytes of data, its shape .* needs 8"),
        (onnx.TensorProto(dims=[2], data_type=1, raw_data=bytes(5000)), "needs 8"),
        (onnx.TensorProto(dims=[1], data_type=2, int32_data=[256]), "none of uint8"),
        (onnx.TensorProto(dims=[1], data_type=9, raw_data=b"\2"), "bool is not between"),
        (onnx.TensorProto(dims=[1], data_type=1, int32_data=[1]), "data in int32_data instead of float_data"),
        (onnx.TensorProto(dims=[1], data_type=99), "no data type 99"),
        (onnx.TensorProto(dims=[1], data_type=8, string_data=[b"a"]), "not supported"),
        (onnx.TensorProto(dims=[1], data_type=1, segment={"begin": 0, "end": 1}), "segment"),
        (
            onnx.TensorProto(
                dims=[1], data_type=1, data_location=1, external_data=[{"key": "location", "value": "../x"}]
            ),
            "stored outside|outside the model",
        ),
    ],
    "cbor": [
        (b"\xd8\x28\x82\x81\x1b" + HUGE + b"\xd8\x55\x40", "too large|dimension"),
        (b"\xd8\x28\x82\x82\x1b" + HUGE + b"\x00\xd8\x55\x40", "too large"),
        (b"\xd8\x28\x82\x81\x00\xd8\x55\x40", "dimension of 0"),
        (b"\xd8\x28\x82\x81\x02\xd8\x55\x44" + bytes(4), "4 bytes of data, its shape .* needs 8"),
        (b"\xd8\x55\x5b" + HUGE, "middle of an item"),
        (b"\xd8\x55\x45" + bytes(5), "5 bytes of data, an element has 4"),
        (b"\xd8\x57\x50" + bytes(16), "tag 87"),
        (b"\xd8\x4c\x40", "tag 76"),
        (b"\xbb" + HUGE, "middle of an item"),
        (b"\x9b" + HUGE, "middle of an item"),
        (b"\x9b" + HUGE + b"\x01" * 99, "middle of an item"),
        (b"\x81" * 9999, "neither numbers nor bools"),
        (b"\xc1" * 9999, "tag 1,"),
        (b"\xa2\x61x\xd8\x40\x40\x61x\xd8\x40\x40", "two tensors are named 'x'"),
        (b"\xa1\x61\xff\xd8\x40\x40", "not UTF-8"),
        (b"\xa1\x01\xd8\x40\x40", "name of a tensor"),
        (b"\x83\x64int4\x81\x01\xd8\x48\x41\x08", "int4 is not between"),
        (b"\x83\x64int4\x81\x01\xd8\x40\x41\x01", "uint8 and not int8"),
        (b"\x83\x63int\x81\x01\xd8\x48\x41\x08", "the dtype 'int'"),
        (b"\xd8\x29\x82\xf5\x01", "bools among"),
        (b"\x82\x1b" + b"\xff" * 8 + b"\x20", "no dtype holds together"),
        (b"\xd8\x40\x40\x00", "1 bytes follow"),
        (b"\x1c", "begins no CBOR item"),
        (b"\xd8\x40\x5f\x41\x01\xff", "indefinite"),
    ],
    "safetensors": [
        (b"\xff" * 8 + b"{}", "longer than the file"),
        (b'{"x":[[[[', "header is not JSON"),
        (b"[" * 99999, "header is not JSON"),
        (b"[]", "no JSON object"),
        (b'{"x":{},"x":{}}', "same name"),
        (b'{"x":{}}', "no data_offsets"),
        (b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', "lies at 4 to 8"),
        (b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "lies at 0 to 4"),
        (b'{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', "too large"),
        (b'{"x":{"dtype":"F32","shape":[true],"data_offsets":[0,0]}}', "shape that is none"),
        (b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,0]}}', "needs 4"),
        (b'{"x":{"dtype":"C64","shape":[0],"data_offsets":[0,0]}}', "the dtype C64"),
        (b'{"__metadata__":{"dtype:x":"int4"},"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', "cannot stand"),
        (b"{}" + bytes(6), "header is not JSON"),
    ],
    "candid": [
        (b"DIDL\x01\x6d\x73\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "middle of a value"),
        (b"DIDL\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "middle of a value"),
        (b"DIDL\x00\x01\x79\x01\x00\x00\x00", "no vectors"),
    ],
}  # fmt: skip


def as_file(format: str, content) -> bytes:
    if isinstance(content, onnx.TensorProto):
        return content.SerializeToString()
    if format == "safetensors" and content[:1] != b"\xff":
        return len(content).to_bytes(8, "little") + content
    return content


@pytest.mark.parametrize(
    ("name", "content", "message"), [(name, *case) for name, cases in REFUSED.items() for case in cases]
)
def test_refuses(name, content, message) -> None:
    with pytest.raises(TosaicError, match=message):
        format_named(name).read(memoryview(as_file(name, content)))


def zip_of(members: list[tuple[str, bytes]], path) -> memoryview:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return memoryview(path.read_bytes())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_archives(tmp_path) -> None:
    read, path = format_named("npz").read, tmp_path / "x.npz"
    member = bytes(written(format_named("npy"), {"x": np.ones(3)}))
    for members, message in [
        ([("x.npy", member), ("x.npy", member)], "same name"),
        ([("x.txt", b"text")], "no .npy file"),
        ([("x.npy", member + bytes(1 << 24))], "bytes of data, its shape"),
        ([("x.npy", b"\x80\x04N.")], "header of numpy"),
    ]:
        tracemalloc.start()
        with pytest.raises(TosaicError, match=message):
            read(zip_of(members, path))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


# Files that others write and read


@given(
    array=tensors(("bool", "int8", "uint16", "int64", "float16", "float32", "float64")), fortran=st.booleans()
)
def test_numpy_agrees(array, fortran, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("npy") / "x.npy"
    np.save(path, np.array(array, order="F" if fortran else "C"))
    assert_same(read_file(path).tensor(), array)
    write_file(path, {"": array})
    assert_same(np.load(path), array)


@pytest.mark.parametrize("dtype", [">i2", ">u4", ">f4", ">f8"])
def test_reads_big_endian_files_of_numpy(dtype, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3).astype(dtype))
    right = np.arange(6).reshape(2, 3).astype(np.dtype(dtype).newbyteorder("="))
    assert_same(read_file(tmp_path / "x.npy").tensor(), right)


def test_numpy_reads_what_it_has_no_dtype_for(tmp_path) -> None:
    array = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    write_file(tmp_path / "x.npy", {"": array})
    assert_same(np.load(tmp_path / "x.npy").view(ml_dtypes.bfloat16), array)
    np.save(tmp_path / "x.npy", array)
    assert_same(read_file(tmp_path / "x.npy").tensor().view(ml_dtypes.bfloat16), array)


def test_numpy_reads_archives(tmp_path) -> None:
    arrays = {"a/b": np.eye(2), "file": np.zeros((), np.int8)}
    write_file(tmp_path / "x.npz", arrays)
    with np.load(tmp_path / "x.npz") as found:
        assert {name: found[name].tolist() for name in found} == {n: a.tolist() for n, a in arrays.items()}
    np.savez_compressed(tmp_path / "y.npz", **{"x": np.eye(3)})
    assert_same(read_file(tmp_path / "y.npz").tensor("x"), np.eye(3))


@given(array=tensors())
def test_onnx_agrees(array) -> None:
    data = written(format_named("pb"), {"x": array})
    proto = onnx.TensorProto.FromString(bytes(data))
    assert_same(onnx.numpy_helper.to_array(proto).reshape(array.shape), array)
    assert data == onnx.numpy_helper.from_array(array, "x").SerializeToString()


@pytest.mark.parametrize("dtype", DTYPES)
def test_typed_fields_of_onnx(dtype) -> None:
    values = np.array([0, 1, 1, 0, 1], dtype_of(dtype))
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    proto = onnx.helper.make_tensor("x", kind, [5], values)
    found = format_named("pb").read(memoryview(proto.SerializeToString()))
    assert_same(found["x"], values)


def test_onnx_data_in_another_file(tmp_path) -> None:
    proto = onnx.numpy_helper.from_array(np.arange(3000, dtype=np.int16), "x")
    onnx.external_data_helper.set_external_data(proto, "x.bin", 16)
    (tmp_path / "x.bin").write_bytes(bytes(16) + proto.raw_data)
    proto.ClearField("raw_data")
    (tmp_path / "x.pb").write_bytes(proto.SerializeToString())
    assert_same(read_file(tmp_path / "x.pb").tensor(), np.arange(3000, dtype=np.int16))
    (tmp_path / "x.bin").write_bytes(bytes(17))
    with pytest.raises(TosaicError, match="bytes"):
        read_file(tmp_path / "x.pb")
    (tmp_path / "x.bin").unlink()
    with pytest.raises(TosaicError, match="is missing"):
        read_file(tmp_path / "x.pb")


LIBRARY_DTYPES = tuple(d for d in DTYPES if "int4" not in d and "int2" not in d and "float4" not in d)


@given(arrays=st.dictionaries(NAMES, tensors(LIBRARY_DTYPES), max_size=4))
def test_safetensors_writes_the_same_bytes(arrays) -> None:
    assert written(format_named("safetensors"), arrays) == safetensors.numpy.save(arrays)


def test_safetensors_reads_carriers() -> None:
    data = written(format_named("safetensors"), {"x": np.array([-8, 7], ml_dtypes.int4)})
    assert safetensors.numpy.load(bytes(data))["x"].tolist() == [-8, 7]


def test_bytes_of_the_example_in_the_rfc() -> None:
    data = bytes.fromhex("d82882820203d8414c000200040008000400100100")
    assert_same(
        format_named("cbor").read(memoryview(data))[""], np.array([[2, 4, 8], [4, 16, 256]], np.uint16)
    )


def generic(array: np.ndarray) -> object:
    """A tensor as cbor2, which knows nothing of typed arrays, would be told of it."""
    tags = {"uint8": 64, "uint16": 65, "int8": 72, "int16": 73, "float32": 81, "float64": 82}
    flat = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return cbor2.CBORTag(40, [list(array.shape), cbor2.CBORTag(tags[array.dtype.name], flat)])


@given(
    array=tensors(("uint8", "uint16", "int8", "int16", "float32", "float64")).filter(
        lambda a: 0 not in a.shape
    )
)
def test_reads_what_cbor2_writes(array) -> None:
    found = format_named("cbor").read(memoryview(cbor2.dumps({"x": generic(array)})))
    assert_same(found["x"], array)


@given(arrays=st.dictionaries(NAMES, tensors(), min_size=2, max_size=4))
def test_cbor2_reads_it_and_finds_it_canonical(arrays) -> None:
    data = bytes(written(format_named("cbor"), arrays))
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data


@pytest.mark.parametrize(
    ("item", "right"),
    [
        (cbor2.CBORTag(41, [True, False]), np.array([True, False])),
        (cbor2.CBORTag(40, [[2, 1], [1, -(1 << 63)]]), np.array([[1], [-(1 << 63)]])),
        ([1, (1 << 64) - 1], np.array([1, (1 << 64) - 1], np.uint64)),
        ([1.5, 2], np.array([1.5, 2.0])),
        ([], np.zeros(0)),
        (cbor2.CBORTag(1040, [[2, 2], [1, 2, 3, 4]]), np.array([[1, 3], [2, 4]])),
        (cbor2.CBORTag(40, [[2, 1], b"\1\2"]), np.array([[1], [2]], np.uint8)),
        (cbor2.CBORTag(68, b"\1\2"), np.array([1, 2], np.uint8)),
        (cbor2.CBORTag(55799, cbor2.CBORTag(259, {"": cbor2.CBORTag(80, b"\x3c\x00")})), np.ones(1, np.float16)),
    ],
    ids=range(9),
)  # fmt: skip
def test_reads_other_arrays(item, right) -> None:
    assert_same(format_named("cbor").read(memoryview(cbor2.dumps(item)))[""], right)


def test_reads_containers_of_indefinite_length() -> None:
    data = bytes.fromhex("bf6178d8289f9f02ffd840420102ffff")
    assert_same(format_named("cbor").read(memoryview(data))["x"], np.array([1, 2], np.uint8))


# The registry


def test_the_suffix_names_the_format_or_the_beginning_does(tmp_path) -> None:
    write_file(tmp_path / "x.npy", {"": np.eye(2)})
    (tmp_path / "x").write_bytes((tmp_path / "x.npy").read_bytes())
    assert read_file(tmp_path / "x").format.name == "npy"
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(TosaicError, match=r"names no format of tensors.*\.safetensors"):
        read_file(tmp_path / "x.txt")


def test_a_format_of_one_tensor_refuses_several(tmp_path) -> None:
    with pytest.raises(
        TosaicError, match=r"holds one tensor, these are 2: a, b.*\.npz, \.cbor, \.safetensors"
    ):
        write_file(tmp_path / "x.npy", {"a": np.eye(2), "b": np.eye(2)})
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_is_chosen_by_its_name(tmp_path) -> None:
    write_file(tmp_path / "x.npz", {"a": np.eye(2), "b": np.eye(3)})
    assert read_file(tmp_path / "x.npz").tensor("b").shape == (3, 3)
    with pytest.raises(TosaicError, match="has no tensor 'c'; its tensors are: a, b"):
        read_file(tmp_path / "x.npz").tensor("c")


def test_what_is_no_vector_is_not_fitted() -> None:
    wanted = TensorType("float16", (2, 2))
    bits = np.zeros(4, np.uint16)
    assert fitted(bits, wanted.dtype, wanted.shape, CANDID).dtype == np.float16
    assert fitted(bits, wanted.dtype, wanted.shape, format_named("npy")) is bits
    assert fitted(bits[:3], "float16", (2, 2), CANDID).shape == (3,)
