"""Publishes through Eclipse Paho: every QoS, many in flight; exits 0 only if every publish was acknowledged."""
import sys
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, count = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho-%d" % version, protocol=version)
client.max_inflight_messages_set(200)
codes = []
client.on_publish = lambda c, u, mid, code, props: codes.append(int(getattr(code, "value", 0)))
client.connect("127.0.0.1", port, keepalive=5)
client.loop_start()
sent = []
for number in range(count):
    for qos in (0, 1, 2):
        properties = None
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = ("seq", str(number * 3 + qos))
        sent.append(client.publish("det/%d" % qos, b"%d" % number, qos=qos, properties=properties))
for info in sent:
    info.wait_for_publish(20)
done = all(info.is_published() for info in sent) and not any(codes)
client.disconnect()
client.loop_stop()
sys.exit(0 if done else 1)
