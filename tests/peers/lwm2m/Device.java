// A device on top of Leshan's client library: java -cp JARS Device.java SERVER pull|push [IDENTITY KEY-IN-HEX]
// It prints the SHA-256 of the image that it installs, then "restarts", and registers with the new version.

import java.io.ByteArrayOutputStream;
import java.math.BigInteger;
import java.security.MessageDigest;
import org.eclipse.californium.core.CoapClient;
import org.eclipse.californium.core.CoapResponse;
import org.eclipse.californium.core.coap.Request;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.californium.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.client.californium.endpoint.coap.CoapClientProtocolProvider;
import org.eclipse.leshan.client.californium.endpoint.coaps.CoapsClientProtocolProvider;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.object.Server;
import org.eclipse.leshan.client.resource.BaseInstanceEnabler;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.request.argument.Arguments;
import org.eclipse.leshan.core.response.ExecuteResponse;
import org.eclipse.leshan.core.response.ReadResponse;
import org.eclipse.leshan.core.response.WriteResponse;

public class Device {
    static volatile String version = "1.0.0";
    static boolean pulls;
    static LeshanClient client;

    public static class Information extends BaseInstanceEnabler {
        @Override
        public ReadResponse read(LwM2mServer server, int resource) {
            if (resource == 3) return ReadResponse.success(resource, version);
            if (resource == 16) return ReadResponse.success(resource, "U");
            return resource == 18 ? ReadResponse.success(resource, "rev-b") : ReadResponse.notFound();
        }
    }

    public static class Firmware extends BaseInstanceEnabler {
        private byte[] image = {};
        private int state = 0;
        private int result = 0;

        @Override
        public ReadResponse read(LwM2mServer server, int resource) {
            if (resource == 3) return ReadResponse.success(resource, state);
            if (resource == 5) return ReadResponse.success(resource, result);
            return resource == 9 ? ReadResponse.success(resource, pulls ? 0 : 1) : ReadResponse.notFound();
        }

        @Override
        public WriteResponse write(LwM2mServer server, boolean replaces, int resource, LwM2mResource value) {
            if (resource == 0 && state == 0) {
                image = (byte[]) value.getValue();
                to(2, 0);
                return WriteResponse.success();
            }
            if (resource != 1 || state != 0 || !pulls) return WriteResponse.badRequest("not now");
            to(1, 0);
            new Thread(() -> pull((String) value.getValue())).start();
            return WriteResponse.success();
        }

        @Override
        public ExecuteResponse execute(LwM2mServer server, int resource, Arguments arguments) {
            if (resource != 2 || state != 2) return ExecuteResponse.methodNotAllowed();
            to(3, 0);
            new Thread(this::restart).start();
            return ExecuteResponse.success();
        }

        // Block by block, as a small device does it; Californium by itself assembles no more than 8 KiB.
        private void pull(String uri) {
            Configuration noAssembly = Configuration.createStandardWithoutFile();
            noAssembly.set(CoapConfig.MAX_RESOURCE_BODY_SIZE, 0);
            CoapClient source = new CoapClient(uri);
            source.setEndpoint(new CoapEndpoint.Builder().setConfiguration(noAssembly).build());
            try {
                ByteArrayOutputStream received = new ByteArrayOutputStream();
                CoapResponse answer;
                int number = 0;
                do {
                    Request request = Request.newGet().setURI(uri);
                    request.getOptions().setBlock2(5, false, number++);
                    answer = source.advanced(request);
                    received.write(answer.getPayload());
                } while (answer.getOptions().getBlock2().isM());
                image = received.toByteArray();
                to(2, 0);
            } catch (Exception error) {
                error.printStackTrace();
                to(0, 4);
            }
        }

        private void restart() {
            try {
                byte[] digest = MessageDigest.getInstance("SHA-256").digest(image);
                System.out.println("installed " + String.format("%064x", new BigInteger(1, digest)));
                Thread.sleep(200); // the answer to the execution leaves first
                client.stop(false);
                version = "1.1.0";
                state = 0;
                result = 1;
                client.start();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }

        private void to(int next, int outcome) {
            state = next;
            result = outcome;
            fireResourcesChange(getResourcePaths(3, 5));
        }
    }

    public static void main(String[] args) {
        ObjectsInitializer objects = new ObjectsInitializer();
        pulls = args[1].equals("pull");
        boolean isSecure = args.length > 2;
        byte[] key = isSecure ? new BigInteger(args[3], 16).toByteArray() : null;
        objects.setInstancesForObject(0, isSecure
            ? Security.psk(args[0], 123, args[2].getBytes(), key) : Security.noSec(args[0], 123));
        objects.setInstancesForObject(1, new Server(123, 300));
        objects.setInstancesForObject(3, new Information());
        objects.setInstancesForObject(5, new Firmware());
        var endpoints = new CaliforniumClientEndpointsProvider.Builder(
            new CoapClientProtocolProvider(), new CoapsClientProtocolProvider());
        Configuration limits = endpoints.createDefaultConfiguration();
        limits.set(CoapConfig.MAX_RESOURCE_BODY_SIZE, 1 << 20); // for the push
        LeshanClientBuilder builder = new LeshanClientBuilder("256");
        builder.setObjects(objects.createAll());
        builder.setEndpointsProviders(endpoints.setConfiguration(limits).build());
        client = builder.build();
        client.start();
    }
}
