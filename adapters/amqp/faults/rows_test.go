package faults

// rows are all there are. What is not here is not checked.
var rows = []row{
	{6, "kill-9-under-load", "broker killed -9 under load, 2 x 10,000 confirmed", "all confirmed are there", killUnderLoad},
	{7, "clean-restart", "broker application stopped and started", "resumes, topology again", cleanRestart},
	{11, "late-handlers", "all connections closed by force under 50 handlers", "late acks send nothing", lateHandlers},
	{12, "stale-ack", "late ack after a reconnect", "refused, the same tag's message is not acked", staleAck},
	{13, "queue-deleted", "queue deleted under its consumer", "declared and consumed again, or an error; no phantom", queueDeleted},
	{20, "memory-alarm", "memory alarm, then disk alarm", "publish heeds its ctx, consumers go on", memoryAlarm},
}
