package frame

import "encoding/binary"

// Types of frames, and classes and methods as AMQP numbers them.
const (
	TypeMethod, TypeHeader, TypeBody = 1, 2, 3
	HeadSize, EndByte                = 7, 0xce // bytes before the payload, and the last byte

	ClassBasic            = 60
	MethodPublish         = ClassBasic<<16 | 40
	MethodReturn          = ClassBasic<<16 | 50
	MethodConsume         = ClassBasic<<16 | 20
	MethodCancel          = ClassBasic<<16 | 30
	MethodCancelOK        = ClassBasic<<16 | 31
	MethodDeliver         = ClassBasic<<16 | 60
	MethodGet             = ClassBasic<<16 | 70
	MethodGetOK           = ClassBasic<<16 | 71
	MethodGetEmpty        = ClassBasic<<16 | 72
	MethodAck             = ClassBasic<<16 | 80
	MethodNack            = ClassBasic<<16 | 120
	MethodChannelOpenOK   = 20<<16 | 11
	MethodChannelClose    = 20<<16 | 40
	MethodConnectionClose = 10<<16 | 50
)

// Begin appends the head of a frame to b, and also returns where the frame begins, for [End].
func Begin(b []byte, kind byte, channel uint16) ([]byte, int) {
	return AppendHead(b, kind, channel, 0), len(b)
}

// AppendHead appends the head of a frame whose payload has size bytes.
func AppendHead(b []byte, kind byte, channel uint16, size int) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, channel)
	return binary.BigEndian.AppendUint32(b, uint32(size))
}

// End ends the frame that begins at at.
func End(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at+3:], uint32(len(b)-at-HeadSize))
	return append(b, EndByte)
}

// AppendShort appends a string, which must have at most 255 bytes.
func AppendShort(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// AppendField appends a table's field whose value is a string.
func AppendField(b []byte, name, value string) []byte {
	b = append(AppendShort(b, name), 'S')
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}
