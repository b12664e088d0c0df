"""A consumer of server-sent events that loses none and takes none twice, whatever breaks."""
