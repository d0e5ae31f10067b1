"""One OS thread per device (``cpu-0``, ``cuda-0``), which alone touches the device's sessions, KV pools and OrtValues.

How to use it (every call is safe from any thread, and none waits for the device)::

    from neuron.device.jobs import DeviceRefused, DeviceSpec, GenerationEnded, GenerationSpec, LoadSpec, TokenProduced
    from neuron.device.thread import DeviceThread

    device = DeviceThread(DeviceSpec("cpu-0", "cpu", index=0, threads=2, memory_bytes=4 << 30))
    device.start()
    loaded = device.load(LoadSpec("tiny-chat", folder, manifest, rows=4, context=131_072)).result()
    device.submit(loaded.handle, GenerationSpec("req-1", tokens, sampling, manifest.eos_token_ids, 256), on_event)
    device.abort("req-1")             # the row is free within one step; the last event is GenerationEnded("abort")
    device.status()                   # plain numbers, never waits for the thread
    device.unload(loaded.handle).result()
    device.stop(timeout=10)

``on_event`` is called *from the device thread*: hand the event over (``loop.call_soon_threadsafe(queue.put_nowait,
event)``) and return at once. Every accepted request gets any number of ``TokenProduced`` and then exactly one
``GenerationEnded`` or ``GenerationFailed``, also after ``abort``, ``unload``, a fault or ``stop``. What is refused
raises ``DeviceRefused`` in ``submit`` and gets no event at all.

``jobs`` has the types, ``thread`` the thread, ``door`` who may come in, ``model`` one loaded model, ``memory`` the
arithmetic of a load, ``probe`` finds devices.
"""
