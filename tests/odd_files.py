"""What is known about the optional pack of odd files, beyond its manifest."""

HEALTHY_THOUGH_PILLOW_REFUSES = (
    "pillow-tests/apng__chunk_no_fctl.png",  # ancillary chunks of an animation are wrong; the picture is whole
    "pillow-tests/png_decompression_dos.png",  # a text chunk grows beyond Pillow's limit
    "pillow-tests/truncated_jpeg.jpg",  # half of the end marker is missing, and nothing else
    "pillow-tests/unknown_compression_method.png",  # in an ancillary chunk
)
