// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IDeviceRegistry} from "../../contracts/interfaces/IDeviceRegistry.sol";
import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {ForgeTest} from "./Forge.sol";

/// @title Cheat codes of Foundry about keys, blocks and events
interface VmKeys {
    function addr(uint256 key) external pure returns (address account);

    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);

    function publicKeyP256(uint256 key) external pure returns (uint256 x, uint256 y);

    function roll(uint256 number) external;

    function chainId(uint256 id) external;

    function expectEmit(address emitter) external;

    function load(address account, bytes32 slot) external view returns (bytes32 word);
}

/// @title The whole interface of DeviceRegistry, including the functions inherited from OpenZeppelin
interface IWholeDeviceRegistry is IDeviceRegistry {
    function owner() external view returns (address);

    function pendingOwner() external view returns (address);

    function transferOwnership(address newOwner) external;

    function acceptOwnership() external;

    function renounceOwnership() external;
}

/// @title A registry of identities that tests set as they need it
contract Identities {
    struct Identity {
        bytes16 uuid;
        IIdentityRegistry.Kind kind;
        bool active;
    }

    mapping(address account => Identity) private _byAccount;
    mapping(bytes16 uuid => Identity) private _byUuid;

    function set(address account, bytes16 uuid, IIdentityRegistry.Kind kind, bool active) external {
        _byAccount[account] = _byUuid[uuid] = Identity(uuid, kind, active);
    }

    function standing(address account) external view returns (bytes16, IIdentityRegistry.Kind, bool) {
        Identity memory found = _byAccount[account];
        return (found.uuid, found.kind, found.active);
    }

    function kindOf(bytes16 uuid) external view returns (IIdentityRegistry.Kind, bool) {
        return (_byUuid[uuid].kind, _byUuid[uuid].active);
    }
}

/// @title A registry with two registrants, a spec each, and two gateways; this contract is its owner
abstract contract DeviceScene is ForgeTest {
    VmKeys internal constant KEYS = VmKeys(address(vm));

    /// @dev The order of P-256.
    uint256 internal constant ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551;

    bytes16 internal constant SITE = "site one";
    bytes16 internal constant OTHER_SITE = "site two";
    bytes16 internal constant RETIRED_SITE = "site three";
    bytes16 internal constant ADMINISTRATOR = "administrator";
    address internal constant ADMIN = address(0xAD);
    address internal constant FORMER_ADMIN = address(0xAE);
    address internal constant STRANGER = address(0x57);

    uint256 internal constant ACME_KEY = 0xA1;
    uint256 internal constant BOLT_KEY = 0xB2;
    bytes32 internal constant ACME = "acme";
    bytes32 internal constant BOLT = "bolt";
    bytes32 internal constant THERMO = keccak256("thermo2");
    bytes32 internal constant PUMP = keccak256("pump");
    bytes internal constant SIGNATURE = hex"30060201010201ff";

    IWholeDeviceRegistry internal _registry;
    Identities internal _identities;
    address internal _acme;
    address internal _bolt;

    function _deployDevices() internal {
        vm.warp(1_700_000_000);
        KEYS.roll(1000);
        (_acme, _bolt) = (KEYS.addr(ACME_KEY), KEYS.addr(BOLT_KEY));
        _identities = new Identities();
        _identities.set(address(1), SITE, IIdentityRegistry.Kind.Gateway, true);
        _identities.set(address(2), OTHER_SITE, IIdentityRegistry.Kind.Gateway, true);
        _identities.set(address(3), RETIRED_SITE, IIdentityRegistry.Kind.Gateway, false);
        _identities.set(ADMIN, ADMINISTRATOR, IIdentityRegistry.Kind.Administrator, true);
        _identities.set(FORMER_ADMIN, "former", IIdentityRegistry.Kind.Administrator, false);
        bytes memory arguments = abi.encode(address(this), address(_identities));
        _registry = IWholeDeviceRegistry(_deploy("DeviceRegistry", arguments));
    }

    function _populate() internal {
        _registry.admitRegistrant(ACME, _publicKey(2, "acme"), _acme);
        _registry.admitRegistrant(BOLT, _publicKey(3, "bolt"), _bolt);
        vm.prank(_acme);
        _registry.registerSpec("thermo2", '{"type":"object"}');
        vm.prank(_bolt);
        _registry.registerSpec("pump", "");
        _registry.giveBlocks(SITE, 1);
        _registry.giveBlocks(OTHER_SITE, 2);
    }

    /// @dev A device of acme with one alias and no key.
    function _thing(string memory serial) internal pure returns (IDeviceRegistry.Registration memory thing) {
        thing.registrant = ACME;
        thing.nonce = abi.encodePacked("nonce ", serial);
        thing.aliases = new string[](1);
        thing.aliases[0] = string.concat("acme/thermo2/", serial);
        thing.spec = "thermo2";
        thing.site = SITE;
    }

    function _register(IDeviceRegistry.Registration memory thing) internal returns (uint64 number) {
        uint256 key = thing.registrant == ACME ? ACME_KEY : BOLT_KEY;
        bytes memory signature = _sign(key, thing);
        vm.prank(STRANGER);
        return _registry.register(thing, signature);
    }

    function _import(IDeviceRegistry.Registration memory thing) internal pure returns (IDeviceRegistry.ImportedThing[] memory all) {
        all = new IDeviceRegistry.ImportedThing[](1);
        all[0] = IDeviceRegistry.ImportedThing(thing, SIGNATURE);
    }

    function _sign(uint256 key, IDeviceRegistry.Registration memory thing) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = KEYS.sign(key, _digest(thing));
        return abi.encodePacked(r, s, v);
    }

    /// @dev The EIP-712 digest, written out from the standard.
    function _digest(IDeviceRegistry.Registration memory thing) internal view returns (bytes32) {
        bytes memory aliases;
        for (uint256 i = 0; i < thing.aliases.length; ++i) {
            aliases = abi.encodePacked(aliases, keccak256(bytes(thing.aliases[i])));
        }
        bytes32 content = keccak256(
            abi.encode(
                keccak256(
                    "Registration(bytes32 registrant,bytes nonce,string[] aliases,string data,string spec,bytes16 site,bytes32 keyX,bytes32 keyY)"
                ),
                thing.registrant,
                keccak256(thing.nonce),
                keccak256(aliases),
                keccak256(bytes(thing.data)),
                keccak256(bytes(thing.spec)),
                thing.site,
                thing.keyX,
                thing.keyY
            )
        );
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("BlockOTA DeviceRegistry"),
                keccak256("1"),
                block.chainid,
                address(_registry)
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, content));
    }

    function _deviceKey(uint256 seed) internal pure returns (bytes32 keyX, bytes32 keyY) {
        (uint256 x, uint256 y) = KEYS.publicKeyP256(_pick(seed, 1, ORDER - 1));
        return (bytes32(x), bytes32(y));
    }

    function _publicKey(uint8 parity, string memory name) internal pure returns (bytes memory) {
        return abi.encodePacked(parity, keccak256(bytes(name)));
    }

    function _refuse(address sender, bytes memory call, bytes memory refusal) internal {
        _expect(sender, address(_registry), call, refusal);
    }

    function _succeed(address sender, bytes memory call) internal {
        _expect(sender, address(_registry), call, "");
    }
}
